"""What each user discloses: the game, the strategies, and the stage that writes the masked dataset."""
