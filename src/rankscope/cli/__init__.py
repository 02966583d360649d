"""The command line: verbs over the facade in ``rankscope.study``. Nothing heavy is imported before a verb needs it."""
