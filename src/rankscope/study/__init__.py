"""Studies: what there is to do (``plan``), doing it (``study``)."""
