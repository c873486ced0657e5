"""What a training loop reads: rows by second, labels, batches in memory that is used again, an order along the disk."""
