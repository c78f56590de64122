"""Choices that follow the user's text: texts to learn from, what is known of them, what a choice is worth."""
