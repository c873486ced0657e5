"""How fast each stage is against its floor, measured on this machine in one go so that the ratios mean something."""
