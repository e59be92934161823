//! A question in words (HANDS), for showing answers and for judging them.

/// What an example asks and the answer it expects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// The rendered prompt, as the model is asked.
    pub prompt: String,
    /// The instruction; in a conversation the last message before the answer.
    pub instruction: String,
    /// What the instruction is about; empty when there is none, and in conversations.
    pub input: String,
    /// The answer; a conversation's last one.
    pub answer: String,
}
