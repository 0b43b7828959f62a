"""Parts that several objectives share: levels of tokens, the logit scale, one space for all pairs, correspondence."""
