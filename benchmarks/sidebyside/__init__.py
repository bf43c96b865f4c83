"""Time and memory of one map, beside one inference and beside other libraries."""
