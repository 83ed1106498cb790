"""What every stage builds on: errors, files, parameters, and the formats that one stage writes and others read."""
