"""Words that a page of the stepper explains where it first uses them; a test compares them with docs/glossary.md."""

GLOSSARY = {
    "residual stream": "one vector for each position, which every layer reads from and adds to; also called the stream",
    "d_model": "width of the residual stream: how many numbers stand at each position (n_embd)",
    "logit": "score of a token of the vocabulary before the softmax makes a probability of it; any number",
    "nats": "unit of the loss: minus the natural logarithm of a probability; 0 is certain, log of the vocabulary's "
            "size is a guess at random",
    "GELU": "activation function of the MLP, a smooth threshold: large numbers pass, negative ones come out near zero",
}
"""Word: its meaning, without a full stop."""
