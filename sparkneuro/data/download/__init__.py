"""Downloads over a network that fails: listed, resumed, checked."""
