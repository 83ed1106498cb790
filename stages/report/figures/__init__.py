"""The comparison's figures."""
