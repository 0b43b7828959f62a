"""Sources: they list records and fetch the files named in them."""
