"""The weighted sum of terms over all pairs: its configuration, the sum, and the gradient norms of its terms."""
