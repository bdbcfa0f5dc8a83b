"""Both models on the same candidates; recommendations and explanations."""
