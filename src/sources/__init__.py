"""Where data come from: downloads, readers, the simulation, unwillingness, published negatives."""
