"""Where data come from: downloads, readers, the simulation, the lists of users and items."""
