"""What people look at: report, maps, data page, charts and contact sheets."""
