"""What every stage stands on: errors, files, parameters, the formats of what one stage writes and others read."""
