"""A model of ours in other people's runtimes: which take it, how right they are, how long they take."""
