"""What the page shows, as structs, and the HTTP API that answers it as JSON or Arrow."""
