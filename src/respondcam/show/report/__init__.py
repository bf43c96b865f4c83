"""The report: one page for a volume and its maps, with an interactive viewer and no network."""
