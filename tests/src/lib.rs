//! megalith-tests.
