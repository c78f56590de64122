"""When to think: rollouts, rewards, prompt samplers, verifiers; numpy only."""
