"""The files of other annotation tools, a module each; `data.points.tool_file` says what a module has to do."""
