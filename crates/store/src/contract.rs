//! The suite every engine has to pass.
