"""Language models some of whose layers are recurrent: how their own functions read a tree."""
