"""What features tell without training."""
