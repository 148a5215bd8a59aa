"""The method: the paper (`core`), edits of a captioned picture (`caption`), an approximation (`thrift`)."""
