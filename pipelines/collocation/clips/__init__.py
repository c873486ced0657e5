"""The clips that all collocations share: read once, mapped into every lane."""
