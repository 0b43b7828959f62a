"""Data: sources give records, records become pairs, pairs become batches."""
