def plan_of(config):
    raise NotImplementedError
