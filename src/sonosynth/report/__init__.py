"""From numbers to pages and figures."""
