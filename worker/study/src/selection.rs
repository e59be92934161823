//! Rules that pick a stitch per budget from what training said (LAW: pure), to be tried on finished runs.
