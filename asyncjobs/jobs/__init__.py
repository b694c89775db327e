"""Jobs: their ids, states, JSON form and table record."""
