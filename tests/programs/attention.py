"""Attention: masks of every kind, encoders, a small GPT that generates."""

import math


def transformer_classifier(torch):
    """nn.TransformerEncoder with sinusoidal positions and a padding mask."""
    nn = torch.nn
    torch.manual_seed(0)

    class PositionalEncoding(nn.Module):
        def __init__(self, d_model, dropout=0.1, max_len=50):
            super().__init__()
            self.dropout = nn.Dropout(p=dropout)
            position = torch.arange(max_len).unsqueeze(1)
            div_term = torch.exp(torch.arange(0, d_model, 2) * (-math.log(10000.0) / d_model))
            pe = torch.zeros(max_len, 1, d_model)
            pe[:, 0, 0::2] = torch.sin(position * div_term)
            pe[:, 0, 1::2] = torch.cos(position * div_term)
            self.register_buffer("pe", pe)

        def forward(self, x):
            return self.dropout(x + self.pe[: x.size(0)])

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(30, 16)
            self.pos = PositionalEncoding(16)
            layer = nn.TransformerEncoderLayer(16, 4, dim_feedforward=32, dropout=0.1)
            self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
            self.head = nn.Linear(16, 2)

        def forward(self, src):
            padding = src == 0
            x = self.pos(self.embed(src.t()) * math.sqrt(16))
            x = self.encoder(x, src_key_padding_mask=padding).transpose(0, 1)
            keep = (~padding).unsqueeze(-1).float()
            return self.head((x * keep).sum(1) / keep.sum(1).clamp(min=1))

    src = torch.randint(1, 30, (8, 10))
    lengths = torch.randint(4, 11, (8,))
    src[torch.arange(10)[None, :] >= lengths[:, None]] = 0
    labels = (src.max(dim=1).values > 25).long()
    model = Model()
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=12)
    losses = []
    for step in range(12):
        loss = nn.functional.cross_entropy(model(src), labels)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
        scheduler.step()
        losses.append(loss.item())
    model.eval()
    with torch.no_grad():
        logits = model(src)
    return {"losses": losses, "logits": logits}


def masked_attention(torch):
    """MultiheadAttention with float, bool, causal and padding masks; averaged weights."""
    nn = torch.nn
    torch.manual_seed(1)
    mha = nn.MultiheadAttention(16, 4, batch_first=True)
    x = torch.randn(3, 7, 16, requires_grad=True)
    memory = torch.randn(3, 5, 16)
    causal = nn.Transformer.generate_square_subsequent_mask(7)
    boolean = torch.triu(torch.ones(7, 7, dtype=torch.bool), diagonal=1)
    padding = torch.zeros(3, 7, dtype=torch.bool)
    padding[1, 5:] = True
    padding[2, 3:] = True
    out1, w1 = mha(x, x, x, attn_mask=causal)
    out2, w2 = mha(x, x, x, attn_mask=boolean, key_padding_mask=padding)
    out3, w3 = mha(x, memory, memory, average_attn_weights=False)
    q, k, v = (t.unflatten(-1, (4, 4)).transpose(1, 2) for t in x.repeat(1, 1, 3).chunk(3, -1))
    out4 = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
    (out1.square().mean() + out2.mean() + out3.std() + out4.norm()).backward()
    return {
        "outputs": [out1.mean(), out2.norm(), out3.std(), out4.norm()],
        "weights": [w1[0, 3], w2[1, 6], w3[0, 1, 2]],
        "grad": x.grad.norm(dim=-1),
        "in_proj": mha.in_proj_weight.grad.abs().mean(),
    }


def gpt(torch):
    """A decoder with tied weights, decay groups, a causal buffer, and generation with top-k."""
    nn, F = torch.nn, torch.nn.functional
    torch.manual_seed(2)
    n_embd, n_head, block_size, vocab = 32, 4, 16, 24

    class CausalSelfAttention(nn.Module):
        def __init__(self):
            super().__init__()
            self.c_attn = nn.Linear(n_embd, 3 * n_embd)
            self.c_proj = nn.Linear(n_embd, n_embd)
            bias = torch.tril(torch.ones(block_size, block_size))
            self.register_buffer("bias", bias.view(1, 1, block_size, block_size))

        def forward(self, x):
            B, T, C = x.size()
            q, k, v = self.c_attn(x).split(n_embd, dim=2)
            k = k.view(B, T, n_head, C // n_head).transpose(1, 2)
            q = q.view(B, T, n_head, C // n_head).transpose(1, 2)
            v = v.view(B, T, n_head, C // n_head).transpose(1, 2)
            att = (q @ k.transpose(-2, -1)) * (1.0 / math.sqrt(k.size(-1)))
            att = att.masked_fill(self.bias[:, :, :T, :T] == 0, float("-inf"))
            y = F.softmax(att, dim=-1) @ v
            return self.c_proj(y.transpose(1, 2).contiguous().view(B, T, C))

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.ln_1, self.ln_2 = nn.LayerNorm(n_embd), nn.LayerNorm(n_embd)
            self.attn = CausalSelfAttention()
            self.mlp = nn.ModuleDict(
                {"fc": nn.Linear(n_embd, 4 * n_embd), "proj": nn.Linear(4 * n_embd, n_embd)}
            )

        def forward(self, x):
            x = x + self.attn(self.ln_1(x))
            return x + self.mlp.proj(F.gelu(self.mlp.fc(self.ln_2(x)), approximate="tanh"))

    class GPT(nn.Module):
        def __init__(self):
            super().__init__()
            self.wte, self.wpe = nn.Embedding(vocab, n_embd), nn.Embedding(block_size, n_embd)
            self.h = nn.ModuleList([Block() for _ in range(2)])
            self.ln_f = nn.LayerNorm(n_embd)
            self.lm_head = nn.Linear(n_embd, vocab, bias=False)
            self.wte.weight = self.lm_head.weight
            self.apply(self._init_weights)

        def _init_weights(self, module):
            if isinstance(module, (nn.Linear, nn.Embedding)):
                nn.init.normal_(module.weight, mean=0.0, std=0.02)
                if isinstance(module, nn.Linear) and module.bias is not None:
                    nn.init.zeros_(module.bias)

        def forward(self, idx, targets=None):
            pos = torch.arange(0, idx.size(1), dtype=torch.long, device=idx.device)
            x = self.wte(idx) + self.wpe(pos)
            for block in self.h:
                x = block(x)
            logits = self.lm_head(self.ln_f(x))
            loss = None
            if targets is not None:
                loss = F.cross_entropy(
                    logits.view(-1, logits.size(-1)), targets.view(-1), ignore_index=-1
                )
            return logits, loss

        @torch.no_grad()
        def generate(self, idx, max_new_tokens, top_k):
            for _ in range(max_new_tokens):
                idx_cond = idx if idx.size(1) <= block_size else idx[:, -block_size:]
                logits, _ = self(idx_cond)
                logits = logits[:, -1, :] / 0.8
                v, _ = torch.topk(logits, min(top_k, logits.size(-1)))
                logits[logits < v[:, [-1]]] = -float("Inf")
                probs = F.softmax(logits, dim=-1)
                idx_next = torch.multinomial(probs, num_samples=1)
                idx = torch.cat((idx, idx_next), dim=1)
            return idx

    model = GPT()
    decay = [p for n, p in model.named_parameters() if p.dim() >= 2]
    no_decay = [p for n, p in model.named_parameters() if p.dim() < 2]
    groups = [{"params": decay, "weight_decay": 0.1}, {"params": no_decay, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=3e-3, betas=(0.9, 0.95))
    data = (torch.arange(200) ** 2 + 3) % vocab
    losses = []
    for step in range(12):
        ix = torch.randint(len(data) - block_size, (4,))
        x = torch.stack([data[i : i + block_size] for i in ix])
        y = torch.stack([data[i + 1 : i + 1 + block_size] for i in ix])
        _, loss = model(x, y)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    model.eval()
    tokens = model.generate(torch.zeros((1, 1), dtype=torch.long), 8, top_k=5)
    return {"losses": losses, "tokens": tokens[0].tolist()}
