"""Movies, still figures and the report page: what people look at."""
