"""Services that run workflows elsewhere, each as a place: they give their own ids, and send no events."""
