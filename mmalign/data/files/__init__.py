"""Where bytes come from: a folder, a tar or a zip, opened safely."""
