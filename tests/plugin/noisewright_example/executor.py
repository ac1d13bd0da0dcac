"""An executor of the example's own."""

from concurrent.futures import Future


class EagerExecutor:
    """Does each job in this process as soon as it is submitted."""

    workers = 1

    def start(self, worker, request=None):
        """Be given the worker, once, before any job."""
        self._worker = worker

    def submit(self, job):
        """Do a job; its outcome is there at once."""
        done = Future()
        try:
            done.set_result(self._worker.do(job))
        except Exception as error:
            done.set_exception(error)
        return done

    def close(self):
        """Let go of the worker."""
        self._worker = None
