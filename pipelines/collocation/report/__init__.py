"""What a collocation search found, as CSV tables and one HTML page; nothing is trained and no store is opened."""
