"""Which audio backbone goes best with which visual one: searches over the features of a store."""
