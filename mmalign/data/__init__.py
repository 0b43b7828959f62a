"""Data: sources list records; records are validated, split, decoded and batched."""
