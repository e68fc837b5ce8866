"""Reinforcement learning: loops where Python decides by what the network said."""

import random
from collections import deque, namedtuple

Transition = namedtuple("Transition", ("state", "action", "next_state", "reward"))


def _step(state, action):
    """A pendulum-like toy: the next state, the reward, and whether the episode ends."""
    x, v = state
    v = 0.9 * v + (0.2 if action else -0.2) - 0.1 * x
    x = x + v
    return (x, v), 1.0 - abs(x), abs(x) > 2


def deep_q_learning(torch):
    """The DQN tutorial: replay buffer, masks of final states, a target network, epsilon."""
    nn = torch.nn
    torch.manual_seed(0)
    rng = random.Random(0)

    class DQN(nn.Module):
        def __init__(self, n_observations, n_actions):
            super().__init__()
            self.layer1 = nn.Linear(n_observations, 24)
            self.layer2 = nn.Linear(24, n_actions)

        def forward(self, x):
            return self.layer2(nn.functional.relu(self.layer1(x)))

    policy_net, target_net = DQN(2, 2), DQN(2, 2)
    target_net.load_state_dict(policy_net.state_dict())
    optimizer = torch.optim.AdamW(policy_net.parameters(), lr=1e-3, amsgrad=True)
    memory = deque(maxlen=200)
    losses, actions = [], []

    def select_action(state):
        if rng.random() > 0.3:
            with torch.no_grad():
                return policy_net(state).max(1).indices.view(1, 1)
        return torch.tensor([[rng.randrange(2)]], dtype=torch.long)

    def optimize_model():
        if len(memory) < 16:
            return
        batch = Transition(*zip(*rng.sample(list(memory), 16)))
        non_final_mask = torch.tensor(
            tuple(map(lambda s: s is not None, batch.next_state)), dtype=torch.bool
        )
        non_final_next_states = torch.cat([s for s in batch.next_state if s is not None])
        state_batch, action_batch = torch.cat(batch.state), torch.cat(batch.action)
        reward_batch = torch.cat(batch.reward)
        state_action_values = policy_net(state_batch).gather(1, action_batch)
        next_state_values = torch.zeros(16)
        with torch.no_grad():
            next_state_values[non_final_mask] = target_net(non_final_next_states).max(1).values
        expected = (next_state_values * 0.95) + reward_batch
        loss = nn.SmoothL1Loss()(state_action_values, expected.unsqueeze(1))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_value_(policy_net.parameters(), 100)
        optimizer.step()
        losses.append(loss.item())

    for episode in range(4):
        raw = (rng.uniform(-0.5, 0.5), 0.0)
        state = torch.tensor(raw, dtype=torch.float32).unsqueeze(0)
        for t in range(15):
            action = select_action(state)
            raw, reward, done = _step(raw, action.item())
            actions.append(action.item())
            next_state = None if done else torch.tensor(raw, dtype=torch.float32).unsqueeze(0)
            memory.append(Transition(state, action, next_state, torch.tensor([reward])))
            state = next_state
            optimize_model()
            target, policy = target_net.state_dict(), policy_net.state_dict()
            for key in policy:
                target[key] = policy[key] * 0.05 + target[key] * 0.95
            target_net.load_state_dict(target)
            if done:
                break
    return {"losses": losses, "actions": actions}


def policy_gradient(torch):
    """REINFORCE: multinomial samples, log-probabilities kept in a list, returns normalised."""
    nn = torch.nn
    torch.manual_seed(1)
    policy = nn.Sequential(nn.Linear(2, 16), nn.Dropout(0.1), nn.ReLU(), nn.Linear(16, 2))
    optimizer = torch.optim.Adam(policy.parameters(), lr=1e-2)
    eps = torch.finfo(torch.float32).eps
    losses, lengths = [], []
    for episode in range(6):
        raw, log_probs, rewards = (0.5, 0.0), [], []
        for t in range(12):
            state = torch.as_tensor(raw, dtype=torch.float32)
            probs = torch.softmax(policy(state), dim=-1)
            action = torch.multinomial(probs, 1)
            log_probs.append(probs.log().gather(0, action))
            raw, reward, done = _step(raw, action.item())
            rewards.append(reward)
            if done:
                break
        R, returns = 0, deque()
        for r in rewards[::-1]:
            R = r + 0.99 * R
            returns.appendleft(R)
        returns = torch.tensor(returns)
        returns = (returns - returns.mean()) / (returns.std() + eps)
        policy_loss = [-log_prob * R for log_prob, R in zip(log_probs, returns)]
        optimizer.zero_grad()
        policy_loss = torch.cat(policy_loss).sum()
        policy_loss.backward()
        optimizer.step()
        losses.append(policy_loss.item())
        lengths.append(len(rewards))
    return {"losses": losses, "lengths": lengths}


def actor_critic(torch):
    """Two heads, an entropy bonus, a clipped objective over minibatches of one rollout."""
    nn, F = torch.nn, torch.nn.functional
    torch.manual_seed(2)

    class ActorCritic(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Linear(2, 16)
            self.actor, self.critic = nn.Linear(16, 2), nn.Linear(16, 1)
            for layer in (self.body, self.actor, self.critic):
                nn.init.orthogonal_(layer.weight, 2**0.5)
                nn.init.zeros_(layer.bias)

        def forward(self, x):
            x = torch.tanh(self.body(x))
            return F.log_softmax(self.actor(x), dim=-1), self.critic(x).squeeze(-1)

    model = ActorCritic()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3, eps=1e-5)
    states, actions, rewards = (
        torch.zeros(24, 2),
        torch.zeros(24, dtype=torch.long),
        torch.zeros(24),
    )
    raw, losses = (0.3, 0.1), []
    for iteration in range(3):
        for t in range(24):
            states[t] = torch.tensor(raw)
            with torch.no_grad():
                logp, _ = model(states[t])
            actions[t] = torch.multinomial(logp.exp(), 1).squeeze()
            raw, reward, done = _step(raw, int(actions[t]))
            rewards[t] = reward
            if done:
                raw = (0.3, 0.1)
        with torch.no_grad():
            logp, values = model(states)
            old = logp.gather(1, actions[:, None]).squeeze(1)
            advantages, last = torch.zeros_like(rewards), 0.0
            for t in reversed(range(23)):
                delta = rewards[t] + 0.99 * values[t + 1] - values[t]
                advantages[t] = last = delta + 0.99 * 0.95 * last
            returns = advantages + values
        for batch in torch.randperm(24).chunk(2):
            logp, value = model(states[batch])
            chosen = logp.gather(1, actions[batch].unsqueeze(1)).squeeze(1)
            ratio = (chosen - old[batch]).exp()
            adv = advantages[batch]
            adv = (adv - adv.mean()) / (adv.std() + 1e-8)
            surrogate = torch.min(ratio * adv, ratio.clamp(0.8, 1.2) * adv).mean()
            entropy = -(logp.exp() * logp).sum(-1).mean()
            loss = -surrogate + 0.5 * F.mse_loss(value, returns[batch]) - 0.01 * entropy
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 0.5)
            optimizer.step()
            losses.append(loss.item())
    return {"losses": losses, "actions": actions, "advantages": advantages}
