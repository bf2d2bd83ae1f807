"""Repairs, on a schedule: silent workers, lost bells, unpublished rows, uploads whose notification was lost."""
