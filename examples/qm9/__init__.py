"""QM9: twelve properties of small organic molecules, by spherical CNNs on the surroundings of their atoms."""
