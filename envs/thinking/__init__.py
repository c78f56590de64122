"""When to think: rollouts, what they are worth, prompts to draw, answers to check; numpy only."""
