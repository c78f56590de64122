"""What the commands about policies show, pack and measure again."""
