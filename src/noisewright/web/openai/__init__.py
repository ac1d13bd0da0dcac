"""OpenAI's Images API over searches: what is asked for, the queue that it waits in, and the answers."""
