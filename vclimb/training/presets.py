def preset_table(name):
    raise NotImplementedError
