"""Recurrent language models, encoders and decoders with attention."""

TEXT = "the quick brown fox jumps over the lazy dog and runs away from the angry bear. " * 3


def lstm_language_model(torch):
    """Characters, truncated backpropagation with detached states, clipping, then sampling."""
    nn = torch.nn
    torch.manual_seed(0)
    vocab = sorted(set(TEXT))
    stoi = {c: i for i, c in enumerate(vocab)}
    ids = torch.tensor([stoi[c] for c in TEXT], dtype=torch.long)

    def batchify(data, bsz):
        nbatch = data.size(0) // bsz
        return data.narrow(0, 0, nbatch * bsz).view(bsz, -1).t().contiguous()

    class RNNModel(nn.Module):
        def __init__(self, ntoken, ninp, nhid, nlayers):
            super().__init__()
            self.drop = nn.Dropout(0.2)
            self.encoder = nn.Embedding(ntoken, ninp)
            self.rnn = nn.LSTM(ninp, nhid, nlayers, dropout=0.2)
            self.decoder = nn.Linear(nhid, ntoken)
            nn.init.uniform_(self.encoder.weight, -0.1, 0.1)
            nn.init.zeros_(self.decoder.bias)

        def forward(self, input, hidden):
            emb = self.drop(self.encoder(input))
            output, hidden = self.rnn(emb, hidden)
            decoded = self.decoder(self.drop(output))
            return decoded.view(-1, decoded.size(-1)), hidden

        def init_hidden(self, bsz):
            weight = next(self.parameters())
            return (weight.new_zeros(2, bsz, 24), weight.new_zeros(2, bsz, 24))

    source = batchify(ids, 4)
    model = RNNModel(len(vocab), 16, 24, 2)
    criterion = nn.CrossEntropyLoss()
    lr, bptt, losses = 2.0, 10, []
    for epoch in range(2):
        model.train()
        hidden = model.init_hidden(4)
        for i in range(0, source.size(0) - 1 - bptt, bptt):
            data, targets = source[i : i + bptt], source[i + 1 : i + 1 + bptt].reshape(-1)
            model.zero_grad()
            hidden = tuple(h.detach() for h in hidden)
            output, hidden = model(data, hidden)
            loss = criterion(output, targets)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 0.25)
            for p in model.parameters():
                p.data.add_(p.grad, alpha=-lr)
            losses.append(loss.item())
    model.eval()
    hidden, word = model.init_hidden(1), torch.zeros(1, 1, dtype=torch.long)
    with torch.no_grad():
        for i in range(10):
            output, hidden = model(word, hidden)
            word_weights = output.squeeze().div(1.0).exp().cpu()
            word_idx = torch.multinomial(word_weights, 1)[0]
            word.fill_(word_idx)
    return {"losses": losses, "hidden": hidden[0].norm(), "weights": word_weights[:5]}


def gru_classifier(torch):
    """A bidirectional GRU over padded sequences of several lengths, packed and not."""
    nn = torch.nn
    torch.manual_seed(1)

    class Classifier(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(20, 12, padding_idx=0)
            self.gru = nn.GRU(12, 10, batch_first=True, bidirectional=True)
            self.fc = nn.Linear(20, 3)

        def forward(self, x, lengths):
            packed = nn.utils.rnn.pack_padded_sequence(
                self.embed(x), lengths, batch_first=True, enforce_sorted=False
            )
            _, h = self.gru(packed)
            return self.fc(torch.cat([h[0], h[1]], dim=1))

    sequences = [torch.randint(1, 20, (n,)) for n in (5, 9, 3, 7, 6, 4)]
    lengths = torch.tensor([len(s) for s in sequences])
    padded = nn.utils.rnn.pad_sequence(sequences, batch_first=True)
    labels = lengths % 3
    model = Classifier()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    losses = []
    for step in range(15):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(padded, lengths), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return {"losses": losses, "padding": model.embed.weight[0].abs().sum()}


def seq2seq_attention(torch):
    """Reversing sequences: an encoder GRU, additive attention, teacher forcing by chance."""
    nn, F = torch.nn, torch.nn.functional
    torch.manual_seed(2)

    class Attention(nn.Module):
        def __init__(self, hidden):
            super().__init__()
            self.Wa, self.Ua = nn.Linear(hidden, hidden), nn.Linear(hidden, hidden)
            self.Va = nn.Linear(hidden, 1)

        def forward(self, query, keys):
            scores = self.Va(torch.tanh(self.Wa(query) + self.Ua(keys)))
            weights = F.softmax(scores.squeeze(2).unsqueeze(1), dim=-1)
            return torch.bmm(weights, keys), weights

    class Decoder(nn.Module):
        def __init__(self, vocab, hidden):
            super().__init__()
            self.embedding = nn.Embedding(vocab, hidden)
            self.attention = Attention(hidden)
            self.gru = nn.GRU(2 * hidden, hidden, batch_first=True)
            self.out = nn.Linear(hidden, vocab)

        def forward(self, encoder_outputs, hidden, target=None, length=6):
            batch = encoder_outputs.size(0)
            token = torch.empty(batch, 1, dtype=torch.long).fill_(0)
            outputs, attentions = [], []
            for i in range(length):
                embedded = self.embedding(token)
                context, weights = self.attention(hidden.permute(1, 0, 2), encoder_outputs)
                output, hidden = self.gru(torch.cat((embedded, context), dim=2), hidden)
                output = self.out(output)
                outputs.append(output)
                attentions.append(weights)
                if target is not None:
                    token = target[:, i].unsqueeze(1)
                else:
                    _, topi = output.topk(1)
                    token = topi.squeeze(-1).detach()
            return F.log_softmax(torch.cat(outputs, dim=1), dim=-1), torch.cat(attentions, dim=1)

    vocab, hidden = 8, 16
    embedding, encoder = nn.Embedding(vocab, hidden), nn.GRU(hidden, hidden, batch_first=True)
    decoder = Decoder(vocab, hidden)
    parameters = [*embedding.parameters(), *encoder.parameters(), *decoder.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=1e-2)
    criterion = nn.NLLLoss()
    losses = []
    for step in range(12):
        source = torch.randint(1, vocab, (8, 6))
        target = source.flip(1)
        optimizer.zero_grad()
        encoded, state = encoder(embedding(source))
        output, _ = decoder(encoded, state, target if step % 3 else None)
        loss = criterion(output.view(-1, vocab), target.reshape(-1))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    with torch.no_grad():
        encoded, state = encoder(embedding(source))
        _, attention = decoder(encoded, state)
    return {"losses": losses, "attention": attention[0]}


def lstm_cell_sine(torch):
    """The sine tutorial: LSTM cells unrolled in Python, future steps, a generator of chunks."""
    nn = torch.nn
    torch.manual_seed(3)

    class Sequence(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm1 = nn.LSTMCell(1, 11)
            self.lstm2 = nn.LSTMCell(11, 11)
            self.linear = nn.Linear(11, 1)

        def forward(self, input, future=0):
            outputs = []
            h_t = torch.zeros(input.size(0), 11, dtype=torch.double)
            c_t = torch.zeros(input.size(0), 11, dtype=torch.double)
            h_t2 = torch.zeros(input.size(0), 11, dtype=torch.double)
            c_t2 = torch.zeros(input.size(0), 11, dtype=torch.double)
            for input_t in input.split(1, dim=1):
                h_t, c_t = self.lstm1(input_t, (h_t, c_t))
                h_t2, c_t2 = self.lstm2(h_t, (h_t2, c_t2))
                output = self.linear(h_t2)
                outputs += [output]
            for i in range(future):
                h_t, c_t = self.lstm1(output, (h_t, c_t))
                h_t2, c_t2 = self.lstm2(h_t, (h_t2, c_t2))
                output = self.linear(h_t2)
                outputs += [output]
            return torch.cat(outputs, dim=1)

    phase = torch.rand(6, 1, dtype=torch.double) * 6
    data = torch.sin((torch.arange(21, dtype=torch.double) + phase) / 3.0)
    seq = Sequence().double()
    criterion = nn.MSELoss()
    optimizer = torch.optim.LBFGS(seq.parameters(), lr=0.8, max_iter=3)
    losses = []
    for i in range(2):

        def closure():
            optimizer.zero_grad()
            loss = criterion(seq(data[:, :-1]), data[:, 1:])
            loss.backward()
            losses.append(loss.item())
            return loss

        optimizer.step(closure)
    with torch.no_grad():
        pred = seq(data[:2, :-1], future=5)
    return {"losses": losses, "future": pred[:, -5:].detach().numpy()}
