"""What the pages of a scene are made from: templates, charts, plans, judgements of quality."""
