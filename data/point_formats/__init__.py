"""The public ways to write down one point per object, a file each.

Each reader of a JSON form has `click_of(entry)`: the object's click, None if the entry has none, `MalformedClick` if it
cannot be understood. `data.points` joins them.
"""
