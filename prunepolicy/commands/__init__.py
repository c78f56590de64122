"""What every command does: one folder a command."""
