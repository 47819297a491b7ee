"""The embedded engine: repairs code by searching over the tests of a project, with no model."""
