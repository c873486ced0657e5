"""Features that others released, brought into a store and marked as imported; one file per layout."""
